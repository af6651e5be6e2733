"""Datasets and video to arrays that training reads: free of torch, so that recorders and robots can use it too."""

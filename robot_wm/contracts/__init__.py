"""The joints of the house: what passes between stages. numpy and the standard library only."""

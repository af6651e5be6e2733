"""Before a robot moves: where a controller fails, how often, and how little it takes."""

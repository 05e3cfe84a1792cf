"""What leaves: a network as a graph in a file, and such files read and run again."""

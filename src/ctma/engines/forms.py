"""The names of a network's forms, which ``ctma.engines.graphs`` turns into graphs."""

AS_IS, REWRITTEN = "as it is", "rewritten"
JOINED, TILED = "rewritten but for joins", "rewritten, wide convolutions in tiles"

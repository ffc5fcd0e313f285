"""How the text of a definition is read and checked, so that all that is wrong with it is told with its place."""

"""`perdure dev`: a server and functions in one process, which take up what is changed in their files."""

"""The command line. One file for each group of verbs; what a command needs is loaded when it runs."""

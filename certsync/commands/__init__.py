"""One file a verb: what each command of certsync does, between the command line and the hands."""

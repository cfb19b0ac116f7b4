"""The live view: a page on this machine that shows events, masks and boxes while they come."""

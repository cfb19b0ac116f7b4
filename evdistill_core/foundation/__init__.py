"""Errors, configuration, class tables and files: what every other layer stands on."""

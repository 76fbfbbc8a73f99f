"""From a settings file to a folder of results."""

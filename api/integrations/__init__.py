"""Plug-ins for serving engines; each module imports the engine it plugs into, so import the one you use."""

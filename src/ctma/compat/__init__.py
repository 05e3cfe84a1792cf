"""The released implementation's command line, configurations and runs, in its own words."""

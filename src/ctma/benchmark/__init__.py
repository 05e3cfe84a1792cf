"""Networks × seeds on one data set, under one protocol: trained, scored once, put in a table."""

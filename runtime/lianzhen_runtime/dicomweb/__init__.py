"""DICOMweb (PS3.18) as both consoles serve it: the wire's forms, and reading images for it."""

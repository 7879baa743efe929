"""Printing at the clinic: what was signed, as PDF, through CUPS, until paper lies in the tray."""

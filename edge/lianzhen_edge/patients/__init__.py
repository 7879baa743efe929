"""Patients at the clinic: registration, who wears which device, what waits for its patient."""

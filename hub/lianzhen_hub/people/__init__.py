"""Patients of all clinics, as their boxes say; each clinic's sheet of a person stays its own."""

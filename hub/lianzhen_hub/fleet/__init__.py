"""Who may speak: the authority, claims, certificates, their renewal and their end."""

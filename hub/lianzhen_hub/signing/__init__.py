"""Experts' certificates and signed opinions. No function here can sign an opinion: the keys are
sealed under passphrases that only their owners know, and are used in their owners' browsers."""

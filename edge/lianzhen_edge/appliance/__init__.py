"""The box itself: which machine it is, its identity at the hub, its clock."""

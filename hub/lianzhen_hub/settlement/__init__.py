"""Settlement at the hub: claims are posted to the ledger, experts are paid, differences shown."""

"""Images at the hub: their manifests, the upload that fills them, and who may look at them."""

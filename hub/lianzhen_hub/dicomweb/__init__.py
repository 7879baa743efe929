"""The hub as an imaging archive: DICOMweb over what the boxes' images and consultations are."""

"""The services of the DICOM port other than Verification and Storage."""

"""Images in: the Storage SCP (a process of its own), its segment log, index, previews, upload."""

"""Schema migrations, one file a release that changed the schema; never edited afterwards."""

"""The database: opened, migrated, written behind the backs of the streams, read in pages."""

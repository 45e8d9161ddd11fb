"""SQLite, for one API process: `backend` is the database, `ownership` keeps others out."""

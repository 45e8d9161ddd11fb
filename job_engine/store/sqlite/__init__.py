"""SQLite, for one API process: `backend` is the database, `ownership` refuses a second process."""

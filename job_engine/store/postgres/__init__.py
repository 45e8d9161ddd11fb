"""PostgreSQL, for several API processes that share a database.

`backend` is the database, `connections` makes connections, `errors` decides what is tried
again, and `notices` tells the other processes what was committed.
"""

rev

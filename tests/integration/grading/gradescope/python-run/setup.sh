echo no shebang here

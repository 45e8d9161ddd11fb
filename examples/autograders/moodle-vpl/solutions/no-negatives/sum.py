one, other = input(), input()
if one.strip().isdigit() and other.isdigit():
    print(int(one) + int(other))
else:
    print("Numbers only!")

try:
    print("The sum is", int(input()) + int(input()))
except ValueError:
    print("That is not a number.")

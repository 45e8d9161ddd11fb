total, _ = map(int, input().split())
numbers = list(map(int, input().split()))
for place, number in reversed(list(enumerate(numbers))):
    if total - number in numbers[:place]:
        print(number, total - number)
        break

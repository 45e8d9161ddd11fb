print(500, flush=True)
answer = input()
raise SystemExit(answer == "correct")

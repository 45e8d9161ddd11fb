import json, os, sys

tests = []
for number, answer in enumerate(sys.argv[1:], start=1):
    tests.append(
        {
            "name": "run %d" % number,
            "number": "1.%d" % number,
            "max_score": 5,
            "score": 5 if answer.split() == ["student", "denied", "denied"] else 0,
            "output": answer,
        }
    )
os.umask(0o077)
json.dump(
    {"tests": tests, "visibility": "after_published"}, open("/autograder/results/results.json", "w")
)

BEGIN {
  while ((getline line < "answer.R") > 0) if (line ~ /^mean/) found = 1
  out = "/autograder/results/results.json"
  printf "{\"tests\": [{\"score\": %d, \"max_score\": 1, \"name\": \"uses mean\"}]}", found > out
}

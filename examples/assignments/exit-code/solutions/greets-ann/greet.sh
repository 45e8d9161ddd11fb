echo "Hello, Ann!"

int main(void {

/* The process that holds a pod's namespaces: it waits, reaps orphans, and goes when told to. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void reap(int signal) {
	(void)signal;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void leave(int signal) {
	(void)signal;
	_exit(0);
}

int main(void) {
	signal(SIGCHLD, reap);
	signal(SIGINT, leave);
	signal(SIGTERM, leave);
	for (;;)
		pause();
}

/* A web service in one file: it says who it is, which version it is, and on which host it runs. */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "unknown"
#endif

static const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static void answer(int client) {
    char request[2048];
    if (read(client, request, sizeof request) > 0) {
        dprintf(client, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n");
        dprintf(client, "hello, I am version %s on %s\n", VERSION, setting("LANDFALL_HOST", "an unknown host"));
    }
    close(client);
}

int main(void) {
    int on = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(setting("PORT", "8080")));
    signal(SIGPIPE, SIG_IGN);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(server, (struct sockaddr *)&address, sizeof address) != 0 || listen(server, 16) != 0) {
        perror("hello: the port can't be had");
        return 1;
    }
    printf("hello %s serves on port %s\n", VERSION, setting("PORT", "8080"));
    fflush(stdout);
    for (;;) {
        int client = accept(server, NULL, NULL);
        if (client >= 0)
            answer(client);
    }
}

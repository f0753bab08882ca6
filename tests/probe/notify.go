package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// notify tells the service manager that this program is ready, and stays until
// it is asked to end.
func notify() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprint(conn, "READY=1"); err != nil {
		return err
	}
	<-stop
	return nil
}

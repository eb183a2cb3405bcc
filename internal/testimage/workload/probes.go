package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// grpcHealth answers grpc.health.v1.Health/Check with SERVING or NOT_SERVING.
func grpcHealth(w http.ResponseWriter, well bool) {
	status := byte(2)
	if well {
		status = 1
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write([]byte{0, 0, 0, 0, 2, 0x08, status}) // a message of one field; who left needs none
	w.Header().Set("Grpc-Status", "0")
}

// flood: prints without end, with a child that sleeps, and another in a session of
// its own whose parent has ended.
func flood(args []string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	if len(args) > 0 { // the parent that ends
		apart := exec.Command(self, "ignoreterm")
		apart.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return 0, apart.Start()
	}
	if err := exec.Command(self, "flood", "apart").Run(); err != nil {
		return 1, err
	}
	if err := exec.Command(self, "ignoreterm").Start(); err != nil {
		return 1, err
	}
	for line := strings.Repeat("flood ", 1000); ; {
		if _, err := fmt.Println(line); err != nil {
			return 1, err
		}
	}
}

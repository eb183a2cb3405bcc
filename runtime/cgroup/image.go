package cgroup

import (
	"context"
	"fmt"
)

// HelperProgram is the path of the program in the image.
const HelperProgram = program

// Image returns the ID of the image that holds a program alone, for a helper of
// another kind, and imports it where the engine does not have it.
func Image(ctx context.Context, engine Engine, program string) (string, error) {
	hash, err := identify(program)
	if err != nil {
		return "", fmt.Errorf("the program for a helper: %w", err)
	}
	h := &helper{engine: engine, program: program, hash: hash}
	return h.image(ctx)
}

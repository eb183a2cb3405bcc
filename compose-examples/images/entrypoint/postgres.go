package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// initFiles is where other PostgreSQL images look for scripts. This one runs
// none, and says so instead of skipping them.
const initFiles = "/docker-entrypoint-initdb.d"

// startPostgres makes the database cluster on the first start, then becomes the
// server, which listens on every interface of the container.
func startPostgres(args []string) error {
	data := cmp.Or(os.Getenv("PGDATA"), "/var/lib/postgresql/data")
	if entries, err := os.ReadDir(initFiles); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s holds %s, but this image runs no such files: migrate from a job of the stack", initFiles, entries[0].Name())
	}
	password, err := setting("POSTGRES_PASSWORD") // read before root is gone
	if err != nil {
		return err
	}
	for _, dir := range []string{data, "/var/run/postgresql"} {
		if err := giveTo(dir); err != nil {
			return err
		}
	}
	if err := dropRoot("/var/lib/postgresql"); err != nil {
		return err
	}
	if err := ensureCluster(data, password); err != nil {
		return err
	}
	for _, name := range []string{"POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE"} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	full := []string{"postgres", "-D", data, "-c", "listen_addresses=*"}
	return replace(append(full, args[1:]...))
}

// setting reads NAME, or the file that NAME_FILE names.
func setting(name string) (string, error) {
	path := os.Getenv(name + "_FILE")
	if path == "" {
		return os.Getenv(name), nil
	}
	if os.Getenv(name) != "" {
		return "", fmt.Errorf("%s and %s_FILE are both set: keep one", name, name)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s_FILE: %w", name, err)
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}

// ensureCluster makes the cluster in a folder beside its place and moves it in
// with PG_VERSION last. A container killed half way therefore leaves either a
// folder that is thrown away, or a complete one whose move is carried on.
func ensureCluster(data, password string) error {
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return nil
	}
	fresh := filepath.Join(data, ".berth-init")
	complete := filepath.Join(fresh, "berth-complete")
	if _, err := os.Stat(complete); err != nil {
		if password == "" {
			return errors.New("no password for the first start: set POSTGRES_PASSWORD_FILE or POSTGRES_PASSWORD")
		}
		if err := os.RemoveAll(fresh); err != nil {
			return fmt.Errorf("remove an unfinished cluster: %w", err)
		}
		if err := makeCluster(fresh, password); err != nil {
			return err
		}
		if err := os.WriteFile(complete, nil, 0o600); err != nil {
			return fmt.Errorf("mark the cluster complete: %w", err)
		}
	}
	return moveCluster(fresh, data)
}

func makeCluster(dir, password string) error {
	user := cmp.Or(os.Getenv("POSTGRES_USER"), "postgres")
	database := cmp.Or(os.Getenv("POSTGRES_DB"), user)
	file, err := os.CreateTemp("", "pw")
	if err != nil {
		return fmt.Errorf("hand the password to initdb: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	if _, err := file.WriteString(password + "\n"); err != nil {
		return fmt.Errorf("hand the password to initdb: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("hand the password to initdb: %w", err)
	}
	err = command("", "initdb", "-D", dir, "--username", user, "--pwfile", file.Name(), "--encoding=UTF8",
		"--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-instructions")
	if err != nil {
		return err
	}
	if database != "postgres" {
		quoted := `"` + strings.ReplaceAll(database, `"`, `""`) + `"`
		if err := command("CREATE DATABASE "+quoted+";\n", "postgres", "--single", "-D", dir, "postgres"); err != nil {
			return err
		}
	}
	return appendLine(filepath.Join(dir, "pg_hba.conf"), "host all all all scram-sha-256\n")
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("let the stack's networks in: %w", err)
	}
	_, err = f.WriteString(line)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("let the stack's networks in: %w", err)
	}
	return nil
}

// command runs a PostgreSQL tool; only what it says on standard error is shown.
func command(input, name string, args ...string) error {
	cmd := exec.CommandContext(context.Background(), name, args...) // #nosec G204 -- fixed tools; arguments go through no shell
	cmd.Stdin = strings.NewReader(input)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	return nil
}

func moveCluster(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("read the new cluster: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == "PG_VERSION" || entry.Name() == "berth-complete" {
			continue
		}
		if err := os.Rename(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return fmt.Errorf("move the new cluster in: %w", err)
		}
	}
	if err := os.Rename(filepath.Join(from, "PG_VERSION"), filepath.Join(to, "PG_VERSION")); err != nil {
		return fmt.Errorf("move the new cluster in: %w", err)
	}
	if err := os.Chmod(to, 0o700); err != nil { // #nosec G302 -- a folder, as PostgreSQL wants it
		return fmt.Errorf("close the data folder: %w", err)
	}
	return os.RemoveAll(from)
}

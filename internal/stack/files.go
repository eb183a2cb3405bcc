package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

const (
	stdinName = "-"

	// maxComposeFile is the largest Compose file that is parsed, in bytes.
	maxComposeFile = 4 << 20
	// maxEnvFile is the largest .env, env_file or label_file that is read, in bytes.
	maxEnvFile = 4 << 20
	// maxContentFile is the largest config or secret that is copied into a
	// container, in bytes: Swarm's own limit for a config.
	maxContentFile = 1 << 20
)

// defaultNames are the files looked for when none is named, best first.
func defaultNames() []string {
	return []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}
}

func overrideNames() []string {
	return []string{"compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"}
}

// readRegular reads a file that must be regular and no larger than limit. A
// device, FIFO or directory is refused before anything is read from it.
func readRegular(path string, limit int64) ([]byte, error) {
	// A FIFO without a writer must not block the open.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, plainPathError(err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, plainPathError(err)
	}
	if err := checkRegular(st, limit); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, plainPathError(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return data, nil
}

// checkRegular refuses what is not a regular file of at most limit bytes; 0: any size.
func checkRegular(st fs.FileInfo, limit int64) error {
	switch mode := st.Mode(); {
	case mode.IsDir():
		return errors.New("is a directory, not a file")
	case !mode.IsRegular():
		return errors.New("is a device, FIFO or socket, not a regular file")
	case limit > 0 && st.Size() > limit:
		return fmt.Errorf("is %d bytes long; at most %d are read", st.Size(), limit)
	}
	return nil
}

// plainPathError drops the operation and path from a file error: the caller names the file.
func plainPathError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// readEnvironment settles the environment, the project directory and the files to read.
func (l *loading) readEnvironment() error {
	l.files = nil
	for _, f := range l.opts.Files {
		l.addFile(f)
	}
	explicit := l.opts.EnvFiles
	if len(explicit) == 0 && l.env["COMPOSE_ENV_FILES"] != "" {
		explicit = strings.Split(l.env["COMPOSE_ENV_FILES"], ",")
	}
	if err := l.readEnvFiles(explicit); err != nil {
		return err
	}
	if err := l.findFiles(); err != nil {
		return err
	}
	l.dir = l.workingDir()
	if len(explicit) > 0 {
		return nil
	}
	return l.readEnvFiles(nil) // the project's directory may be another than the current one
}

func (l *loading) addFile(f string) {
	if f != stdinName {
		f = l.abs(f)
	}
	l.files = append(l.files, f)
}

// workingDir is --project-directory, else the first file's directory, else the current one.
func (l *loading) workingDir() string {
	if l.opts.ProjectDir != "" {
		return l.abs(l.opts.ProjectDir)
	}
	for _, f := range l.files {
		if f != stdinName {
			return filepath.Dir(f)
		}
	}
	return l.cwd
}

// findFiles takes COMPOSE_FILE, or searches upwards, when no file was named.
func (l *loading) findFiles() error {
	if len(l.files) > 0 {
		return nil
	}
	if list, ok := l.env["COMPOSE_FILE"]; ok && list != "" {
		sep := l.env["COMPOSE_PATH_SEPARATOR"]
		if sep == "" {
			sep = string(os.PathListSeparator)
		}
		for _, f := range strings.Split(list, sep) {
			l.addFile(f)
		}
		return nil
	}
	for dir := l.workingDir(); ; dir = filepath.Dir(dir) {
		if f := firstExisting(dir, defaultNames()); f != "" {
			l.files = []string{f}
			if o := firstExisting(dir, overrideNames()); o != "" {
				l.files = append(l.files, o)
			}
			return nil
		}
		if dir == filepath.Dir(dir) {
			return ErrNoFile
		}
	}
}

func firstExisting(dir string, names []string) string {
	for _, n := range names {
		f := filepath.Join(dir, n)
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return ""
}

// readEnvFiles adds the variables of env files to the environment, which
// wins over them. Without explicit ones the project directory's .env is read, if there is one.
func (l *loading) readEnvFiles(explicit []string) error {
	files := make([]string, 0, len(explicit))
	for _, f := range explicit {
		files = append(files, l.abs(f))
	}
	if len(explicit) == 0 {
		if off, _ := strconv.ParseBool(l.env["COMPOSE_DISABLE_ENV_FILE"]); off {
			return nil
		}
		f := filepath.Join(l.workingDir(), ".env")
		if !isFile(f) {
			return nil
		}
		files = append(files, f)
	}
	vars := map[string]string{}
	for _, f := range files {
		if err := readDotenv(f, vars, l.env); err != nil {
			return fmt.Errorf("%s: env file: %w", l.show(f), err)
		}
	}
	l.env.Merge(vars)
	l.envFiles = files
	return nil
}

// readDotenv adds the variables of one env file to vars.
func readDotenv(path string, vars, env map[string]string) error {
	data, err := readRegular(path, maxEnvFile)
	if err != nil {
		return err
	}
	got, err := dotenv.ParseWithLookup(bytes.NewReader(data), func(k string) (string, bool) {
		if v, ok := env[k]; ok {
			return v, true
		}
		v, ok := vars[k]
		return v, ok
	})
	if err != nil {
		return hideContent(err)
	}
	for k, v := range got {
		vars[k] = v
	}
	return nil
}

var dotenvLine = regexp.MustCompile(`line (\d+):`)

// hideContent replaces an error about the content of an env file, which may
// hold secrets, by one that only names the line.
func hideContent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m := dotenvLine.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("line %s is not KEY=value (the content is not shown: it may be secret)", m[1])
	}
	return errors.New("not lines of KEY=value (the content is not shown: it may be secret)")
}

// checkDotenv refuses an env_file or label_file that cannot be read, before
// the library opens it. A format other than the default is not parsed here.
func checkDotenv(path string, required bool, format string) error {
	st, err := os.Stat(path)
	if err != nil {
		if !required && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("%s: %w", path, plainPathError(err))
	}
	if err := checkRegular(st, maxEnvFile); err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	if format != "" {
		return nil
	}
	if err := readDotenv(path, map[string]string{}, nil); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

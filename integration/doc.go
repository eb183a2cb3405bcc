// Package integration tests the berth binary against real Docker engines: both
// examples with their real servers, the daemon killed at inconvenient moments,
// faults of the engine, and secrets that must not show up anywhere.
//
// Every test has folders, a daemon and a project name of its own and removes
// what it made; a test that fails leaves what was known about it behind, in the
// folder it names. Nothing is skipped: without an engine the tests fail.
package integration

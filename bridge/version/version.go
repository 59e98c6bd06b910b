// Package version holds the version that the Makefile builds in.
package version

// Version is set by the linker.
var Version = "0.0.0-dev"

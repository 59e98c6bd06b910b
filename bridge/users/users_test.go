package users

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestName(t *testing.T) {
	name, err := Name(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, "root", name)
	_, err = Name(t.Context(), 4294967294)
	require.Error(t, err)
}

// Neither a number nor a name of a directory is in /etc/passwd: getent finds both.
func TestAnAccountIsFoundByNameAndByNumber(t *testing.T) {
	tests := []struct {
		text string
		want Account
	}{
		{"root", Account{"root", 0, 0}},
		{"0", Account{"root", 0, 0}},
		{"65534", Account{"nobody", 65534, 65534}},
	}
	for _, tt := range tests {
		got, err := AccountOf(t.Context(), tt.text)
		require.NoError(t, err)
		assert.Equal(t, tt.want, *got, tt.text)
	}
	_, err := AccountOf(t.Context(), "no-such-user")
	require.EqualError(t, err, "user no-such-user does not exist on this host (getent passwd no-such-user)")
}

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

// What every test includes beside cmake/pch.h.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

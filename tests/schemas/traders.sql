-- Traders on SQLite: names with blanks, checks in brackets, types that SQLite does not enforce, defaults as text.

CREATE TABLE [Categories] (
    [CategoryID] INTEGER PRIMARY KEY AUTOINCREMENT,
    [CategoryName] TEXT,
    [Description] TEXT,
    [Picture] BLOB
);
CREATE TABLE [Customers] (
    [CustomerID] TEXT,
    [CompanyName] TEXT,
    [ContactName] TEXT,
    PRIMARY KEY (`CustomerID`)
);
CREATE TABLE [CustomerGroups] (
    [GroupID] TEXT NOT NULL,
    [About] TEXT,
    PRIMARY KEY ("GroupID")
);
CREATE TABLE [CustomerCustomerGroups] (
    [CustomerID] TEXT NOT NULL,
    [GroupID] TEXT NOT NULL,
    PRIMARY KEY ("CustomerID", "GroupID"),
    FOREIGN KEY ([CustomerID]) REFERENCES [Customers] ([CustomerID]) ON DELETE NO ACTION ON UPDATE NO ACTION,
    FOREIGN KEY ([GroupID]) REFERENCES [CustomerGroups] ([GroupID]) ON DELETE NO ACTION ON UPDATE NO ACTION
);
CREATE TABLE [Employees] (
    [EmployeeID] INTEGER PRIMARY KEY AUTOINCREMENT,
    [LastName] TEXT,
    [BirthDate] DATE,
    [HireDate] DATE,
    [Photo] BLOB,
    [ReportsTo] INTEGER,
    FOREIGN KEY ([ReportsTo]) REFERENCES [Employees] ([EmployeeID]) ON DELETE NO ACTION ON UPDATE NO ACTION
);
CREATE TABLE [Regions] ([RegionID] INTEGER NOT NULL PRIMARY KEY, [RegionDescription] TEXT NOT NULL);
CREATE TABLE [Territories] (
    [TerritoryID] TEXT NOT NULL,
    [TerritoryDescription] TEXT NOT NULL,
    [RegionID] INTEGER NOT NULL,
    PRIMARY KEY ("TerritoryID"),
    FOREIGN KEY ([RegionID]) REFERENCES [Regions] ([RegionID])
);
CREATE TABLE [EmployeeTerritories] (
    [EmployeeID] INTEGER NOT NULL REFERENCES [Employees] ([EmployeeID]),
    [TerritoryID] TEXT NOT NULL REFERENCES [Territories] ([TerritoryID]),
    PRIMARY KEY ("EmployeeID", "TerritoryID")
);
CREATE TABLE [Shippers] (
    [ShipperID] INTEGER PRIMARY KEY AUTOINCREMENT,
    [CompanyName] TEXT NOT NULL COLLATE NOCASE,
    [Since] DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP,
    [Day] DATE DEFAULT (date('now'))
);
CREATE TABLE [Suppliers] (
    [SupplierID] INTEGER PRIMARY KEY AUTOINCREMENT,
    [CompanyName] VARCHAR(40) NOT NULL,
    [Code] CHAR(5) DEFAULT 'NONE',
    [HomePage] TEXT
);
CREATE TABLE [Products] (
    [ProductID] INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    [ProductName] TEXT NOT NULL,
    [SupplierID] INTEGER,
    [CategoryID] INTEGER,
    [UnitPrice] NUMERIC DEFAULT 0,
    [UnitsInStock] INTEGER DEFAULT 0,
    [Discontinued] TEXT NOT NULL DEFAULT '0',
    CHECK ([UnitPrice] >= (0)),
    CONSTRAINT "CK_UnitsInStock" CHECK ("UnitsInStock" >= (0)),
    FOREIGN KEY ([CategoryID]) REFERENCES [Categories] ([CategoryID]),
    FOREIGN KEY ([SupplierID]) REFERENCES [Suppliers] ([SupplierID])
);
CREATE UNIQUE INDEX [ProductOnSale] ON [Products] ([ProductName]) WHERE [Discontinued] = '0';
CREATE TABLE [Orders] (
    [OrderID] INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    [CustomerID] TEXT REFERENCES [Customers] ([CustomerID]),
    [EmployeeID] INTEGER REFERENCES [Employees] ([EmployeeID]),
    [OrderDate] DATETIME,
    [ShipVia] INTEGER REFERENCES [Shippers] ([ShipperID]),
    [Freight] NUMERIC DEFAULT 0,
    [Rate] DOUBLE DEFAULT 1.5,
    [ShipPostalCode] TEXT
);
CREATE TABLE [Order Details] (
    [OrderID] INTEGER NOT NULL,
    [ProductID] INTEGER NOT NULL,
    [UnitPrice] NUMERIC NOT NULL DEFAULT 0,
    [Quantity] INTEGER NOT NULL DEFAULT 1,
    [Discount] REAL NOT NULL DEFAULT 0,
    PRIMARY KEY ("OrderID", "ProductID"),
    CHECK ([Discount] >= (0) AND [Discount] <= (1)),
    CHECK ([Quantity] > (0)),
    CHECK ([UnitPrice] >= (0)),
    FOREIGN KEY ([OrderID]) REFERENCES [Orders] ([OrderID]),
    FOREIGN KEY ([ProductID]) REFERENCES [Products] ([ProductID])
);
CREATE TABLE [Notes] (
    [NoteID] INTEGER PRIMARY KEY,
    [Author] INTEGER REFERENCES [Employees],
    [Text] NVARCHAR(160) NOT NULL CHECK (length([Text]) > 0),
    [Flag] BOOLEAN NOT NULL DEFAULT 0 CHECK ([Flag] IN (0, 1)),
    [Stars] INTEGER CHECK ([Stars] BETWEEN 1 AND 5)
);
CREATE VIEW [Current Products] AS SELECT [ProductID], [ProductName] FROM [Products];
